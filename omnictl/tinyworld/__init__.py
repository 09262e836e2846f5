"""TinyWorld: a small generated world of things, people, animals, numbers and images, with known probabilities."""

from omnictl.tinyworld.language.grammar import NotInGrammar as NotInGrammar
from omnictl.tinyworld.language.grammar import ScoredText as ScoredText
from omnictl.tinyworld.language.grammar import ScoredWord as ScoredWord
from omnictl.tinyworld.text.documents import document as document
from omnictl.tinyworld.text.documents import score as score
