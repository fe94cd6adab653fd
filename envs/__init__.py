"""The simulator: buildings, episodes, environments, metrics. Importing registers the Gymnasium environments."""

from gymnasium.envs.registration import register, registry

for _id, _env in {"clipnav/R2R-v0": "r2r", "clipnav/R4R-v0": "r4r", "clipnav/RxR-v0": "rxr"}.items():
    if _id not in registry:
        register(
            id=_id,
            entry_point="envs.navigation:NavEnv",
            vector_entry_point="envs.navigation:NavVectorEnv",
            kwargs={"env": _env},
        )
