"""Ways of choosing what to add: the methods of Learning to Steer and its baselines, behind one protocol."""

from methods.adhh import ADHH, RandomHeads
from methods.asking import Asked, ask
from methods.attribution import Attribution, Said, attribute_heads
from methods.cast import CAST, Rule
from methods.catalog import BASELINES, COMBINED, EXTENSIONS, STEERERS, load_steerer
from methods.checks import DoesNotApply
from methods.conditions import Condition
from methods.contrasts.bank import ContrastBank
from methods.contrasts.capture import capture_contrasts
from methods.contrasts.contrasts import Contrasts
from methods.contrasts.pair import ContrastPair
from methods.contrasts.reads import Read
from methods.contrasts.sharded import BankShards, ShardedContrasts
from methods.head_contrasts import HeadContrasts, capture_heads
from methods.iti import ITI
from methods.kept import read_card
from methods.l2s import L2S
from methods.l2s_gated import L2SGated
from methods.l2s_layers import L2SLayers
from methods.mean_steering import MeanSteering
from methods.mean_steering_ba import MeanSteeringBA
from methods.no_steering import NoSteering
from methods.norm_rnd import NormRnd
from methods.p2s import P2S
from methods.pai import PAI
from methods.pai_logits import PAILogits
from methods.prompt_steering import PromptSteering
from methods.steered_model import SteeredModel
from methods.steerer import Query, Steerer
from methods.steering import steer
from methods.together import L2SWithADHH, L2SWithPAI, Together
from methods.training import CosineWeight
from methods.vcd import VCD
from methods.vectors import read_vector, write_vector

__all__ = [
    "ADHH",
    "Asked",
    "Attribution",
    "BASELINES",
    "BankShards",
    "CAST",
    "COMBINED",
    "Condition",
    "ContrastBank",
    "ContrastPair",
    "Contrasts",
    "CosineWeight",
    "DoesNotApply",
    "EXTENSIONS",
    "HeadContrasts",
    "ITI",
    "L2S",
    "L2SGated",
    "L2SLayers",
    "L2SWithADHH",
    "L2SWithPAI",
    "MeanSteering",
    "MeanSteeringBA",
    "NoSteering",
    "NormRnd",
    "P2S",
    "PAI",
    "PAILogits",
    "PromptSteering",
    "Query",
    "RandomHeads",
    "Read",
    "Rule",
    "STEERERS",
    "Said",
    "ShardedContrasts",
    "SteeredModel",
    "Steerer",
    "Together",
    "VCD",
    "ask",
    "attribute_heads",
    "capture_contrasts",
    "capture_heads",
    "load_steerer",
    "read_card",
    "read_vector",
    "steer",
    "write_vector",
]
