"""TinyWorld: a small generated world of things, people, animals, numbers and pictures, with known probabilities."""

from omnictl.world.grammar import NotInGrammar as NotInGrammar
from omnictl.world.grammar import Scored as Scored
from omnictl.world.grammar import ScoredWord as ScoredWord
from omnictl.world.text import document as document
from omnictl.world.text import score as score
