"""Settings of the small world that the tests of this folder share."""

from envs.houses.world import WorldConfig

CONFIG = WorldConfig(seed=3, train=2, unseen=1, face_px=32, train_routes=16, eval_routes=8, depth=True)
