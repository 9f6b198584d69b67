"""Ways of choosing what to add: the methods of Learning to Steer and its baselines, behind one protocol."""

from methods.catalog import STEERERS, load_steerer
from methods.contrasts.bank import ContrastBank
from methods.contrasts.capture import capture_contrasts
from methods.contrasts.contrasts import Contrasts
from methods.contrasts.pair import ContrastPair
from methods.contrasts.sharded import BankShards, ShardedContrasts
from methods.l2s import L2S
from methods.mean_steering import MeanSteering
from methods.mean_steering_ba import MeanSteeringBA
from methods.no_steering import NoSteering
from methods.norm_rnd import NormRnd
from methods.p2s import P2S
from methods.prompt_steering import PromptSteering
from methods.steerer import Query, Steerer
from methods.steering import steer
from methods.training import CosineWeight
from methods.vectors import read_vector, write_vector

__all__ = [
    "STEERERS",
    "BankShards",
    "ContrastBank",
    "ContrastPair",
    "Contrasts",
    "CosineWeight",
    "L2S",
    "MeanSteering",
    "MeanSteeringBA",
    "NoSteering",
    "NormRnd",
    "P2S",
    "PromptSteering",
    "Query",
    "ShardedContrasts",
    "Steerer",
    "capture_contrasts",
    "load_steerer",
    "read_vector",
    "steer",
    "write_vector",
]
