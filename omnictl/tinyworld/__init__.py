"""TinyWorld: a small generated world of things, people, animals, numbers and pictures, with known probabilities."""

from omnictl.tinyworld.grammar import NotInGrammar as NotInGrammar
from omnictl.tinyworld.grammar import Scored as Scored
from omnictl.tinyworld.grammar import ScoredWord as ScoredWord
from omnictl.tinyworld.text import document as document
from omnictl.tinyworld.text import score as score
