"""The words of TinyWorld, by what they mean. Everything that draws, speaks or asks takes its words from here.

All lists are tuples: their order is part of what a seed means. What follows "a" starts with a consonant, except where
`with_article` is used.
"""

from functools import lru_cache

NUMBERS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip
"""NUMBERS[n] is the word for n."""

# Images: what a scene can show, where, and how two shapes can lie.

SHAPES = ("circle", "square", "triangle", "star", "heart", "cross", "ring", "diamond", "arrow", "moon")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
SIZES = ("small", "big")
PLACES = {
    "at the top left": (0, 0), "at the top": (0, 1), "at the top right": (0, 2),
    "on the left": (1, 0), "in the middle": (1, 1), "on the right": (1, 2),
    "at the bottom left": (2, 0), "at the bottom": (2, 1), "at the bottom right": (2, 2),
}  # fmt: skip
"""The nine places of an image, each with its (row, column) in a grid of three by three."""
RELATIONS = {"to the left of": (0, -1), "to the right of": (0, 1), "above": (-1, 0), "below": (1, 0)}
"""The relations of one shape to another, each with the (row, column) direction in which the first lies of the second."""

# People.

WOMEN = ("Anna", "Emma", "Mary", "Lucy", "Sara", "Kate", "Nora", "Julia", "Clara", "Ruth")
MEN = ("Tom", "Ben", "Sam", "Max", "Paul", "Peter", "Jack", "Leo", "David", "Oscar")
NAMES = WOMEN + MEN
JOBS = (
    "teacher", "doctor", "farmer", "baker", "nurse", "driver", "painter", "singer", "cook", "pilot", "dancer", "gardener"
)  # fmt: skip
LANDMARKS = (
    "river", "forest", "park", "station", "school", "lake", "bridge", "market", "church", "beach", "hospital", "library"
)  # fmt: skip
PETS = ("dog", "cat", "bird", "rabbit", "mouse", "pony", "parrot", "hamster")
COATS = ("black", "white", "brown", "grey", "golden", "spotted")
"""The colours of animals."""
HOBBIES = (
    "sing", "dance", "read", "swim", "draw", "run", "paint", "climb", "ski", "fish"
)  # fmt: skip
FEMALE_KIN = ("sister", "aunt", "friend", "neighbour", "cousin")
MALE_KIN = ("brother", "uncle", "friend", "neighbour", "cousin")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

TRAITS = (
    "kind", "clever", "funny", "young", "famous", "friendly", "brave", "busy", "quiet", "tall"
)  # fmt: skip
DWELLINGS = ("house", "flat", "hut", "cottage", "tower", "tent", "room", "villa")

# Settings: nothing depends on them.

WEATHER = ("sunny", "rainy", "windy", "cold", "warm", "cloudy", "foggy", "stormy")
TIMES = ("morning", "afternoon", "evening", "day", "night")
MANNERS = ("quickly", "slowly", "quietly", "happily", "carefully", "gladly", "calmly", "proudly")

# Things, and where they can be.

THINGS = (
    "ball", "book", "cup", "hat", "key", "doll", "spoon", "lamp", "kite", "drum", "coat", "shoe", "pen", "brush", "bell",
    "rope", "coin", "boat",
)  # fmt: skip
LOOKS = ("new", "heavy", "shiny", "soft", "clean", "dirty", "pretty", "round", "long", "broken")
SPOTS = (
    "in the box", "in the basket", "in the drawer", "in the cupboard", "in the bag",
    "on the table", "on the chair", "on the shelf", "on the floor", "on the sofa",
    "under the bed", "under the table", "under the chair", "under the sofa", "under the blanket",
    "behind the door", "behind the sofa", "behind the curtain", "behind the cupboard",
    "near the window", "near the door", "near the clock",
)  # fmt: skip
ROOMS = ("kitchen", "garden", "bedroom", "bathroom", "hall", "garage", "attic", "classroom", "shop", "office")
FOODS = {
    "apple": "apples", "pear": "pears", "plum": "plums", "nut": "nuts", "egg": "eggs", "cake": "cakes", "cherry": "cherries",
    "lemon": "lemons", "carrot": "carrots", "potato": "potatoes", "biscuit": "biscuits", "sweet": "sweets",
}  # fmt: skip
"""Things to count: singular to plural."""

# Animals: facts that hold in every document.

ANIMAL_SOUNDS = {
    "cow": "moo", "pig": "oink", "sheep": "baa", "horse": "neigh", "hen": "cluck",
    "owl": "hoot", "wolf": "howl", "bear": "growl", "crow": "caw",
    "duck": "quack", "frog": "croak", "goose": "honk",
    "dog": "woof", "cat": "meow", "mouse": "squeak",
    "lion": "roar", "elephant": "toot", "snake": "hiss", "seal": "bark",
}  # fmt: skip
"""What each animal says; all different."""
ANIMAL_HOMES = {
    "on the farm": ("cow", "pig", "sheep", "horse", "hen"),
    "in the forest": ("owl", "wolf", "bear", "crow"),
    "by the pond": ("duck", "frog", "goose"),
    "in the house": ("dog", "cat", "mouse"),
    "at the zoo": ("lion", "elephant", "snake", "seal"),
}
"""Where the animals live."""


def plural(noun: str) -> str:
    """`circle` to `circles`."""
    if noun in FOODS:
        return FOODS[noun]
    return _IRREGULAR.get(noun, noun + ("es" if noun.endswith(("s", "x", "ch")) else "s"))


_IRREGULAR = {"mouse": "mice", "goose": "geese", "sheep": "sheep", "wolf": "wolves"}


def count_noun(number: int, noun: str) -> str:
    """`one apple`, `three apples`."""
    return f"{NUMBERS[number]} {noun if number == 1 else plural(noun)}"


def with_article(phrase: str) -> str:
    """`a red ball`, `an orange ball`."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


@lru_cache(maxsize=1_000)
def with_articles(phrases: tuple[str, ...]) -> tuple[str, ...]:
    """Each of `phrases` with its article."""
    return tuple(map(with_article, phrases))


def she_or_he(name: str) -> str:
    """The pronoun of a person."""
    return "she" if name in WOMEN else "he"


def her_or_his(name: str) -> str:
    """The possessive of a person."""
    return "her" if name in WOMEN else "his"


def others(options: tuple[str, ...], used: tuple[str, ...]) -> tuple[str, ...]:
    """The `options` that are not `used`, in order."""
    return tuple(option for option in options if option not in used)
