"""Learning: a budget, a schedule, an optimizer, one loop over parallel streams, and the run that is saved.

settings    what a run can be told          plan        what it does where it was told nothing
presets     settings that belong together   budget      how long
schedule    how fast, when
optimizers  gradients to steps              muon        the optimizer of ours among them
streams     one text as many streams        mixture     counting members and gates
loop        the loop                        step        one optimizer step of it
computing   its arithmetic                  pace        budgets of time into steps
distributed what several processes do together
validation  best weights, patience, joining state       what a resumed run needs
observer    who is told, and may stop it    session     what is saved, and when
run         from text and settings to a saved run       memory_limit  networks too large for this machine
"""

from charlm.training.budget import Budget
from charlm.training.computing import speed
from charlm.training.distributed import RankLost, World, joined
from charlm.training.observer import Progress, TrainingObserver
from charlm.training.plan import SIZES, assumptions, complete, model_config, recipe_of
from charlm.training.policy import policy_of
from charlm.training.presets import DEFAULT_ARCHITECTURE, PRESETS, with_preset
from charlm.training.run import choose_device, resume, train
from charlm.training.session import Trained, Unsaved
from charlm.training.settings import TrainingConfig
from charlm.training.state import with_units

__all__ = [
    "DEFAULT_ARCHITECTURE",
    "PRESETS",
    "SIZES",
    "Budget",
    "Progress",
    "RankLost",
    "Trained",
    "TrainingConfig",
    "TrainingObserver",
    "Unsaved",
    "World",
    "assumptions",
    "choose_device",
    "complete",
    "joined",
    "model_config",
    "policy_of",
    "recipe_of",
    "resume",
    "speed",
    "train",
    "with_preset",
    "with_units",
]
