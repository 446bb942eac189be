"""Learning: a budget, a schedule, an optimizer, one loop over parallel streams, and the run that is saved.

settings    what a run can be told          plan        what it does where it was told nothing
presets     settings that belong together   budget      how long
schedule    how fast, when
optimizers  gradients to steps              muon        the optimizer of ours among them
streams     one text as many streams        mixture     what is trained beside a network
loop        the loop                        computing   its arithmetic
counters    where it stands                 session     what is saved, and when
run         from text and settings to a saved run
"""

from charlm.training.budget import Budget
from charlm.training.computing import speed
from charlm.training.counters import Progress, with_units
from charlm.training.plan import SIZES, assumptions, complete, model_config, recipe_of
from charlm.training.policy import policy_of
from charlm.training.presets import PRESETS, with_preset
from charlm.training.run import choose_device, resume, train
from charlm.training.session import Trained, Unsaved, Watcher
from charlm.training.settings import TrainingConfig

__all__ = [
    "PRESETS",
    "SIZES",
    "Budget",
    "Progress",
    "Trained",
    "TrainingConfig",
    "Unsaved",
    "Watcher",
    "assumptions",
    "choose_device",
    "complete",
    "model_config",
    "policy_of",
    "recipe_of",
    "resume",
    "speed",
    "train",
    "with_preset",
    "with_units",
]
