"""The Matterport3D simulator under the name that the field's code imports; see `envs.simulator`."""

from envs.simulator import Simulator, SimulatorError
from envs.simulator_state import SimState, ViewPoint

__all__ = ["SimState", "Simulator", "SimulatorError", "ViewPoint"]
