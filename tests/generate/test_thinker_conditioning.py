"""What a Thinker makes of a text, symbol by symbol."""

import torch

from omnictl.data.text.tokenizer import Tokenizer
from omnictl.generate.thinker_conditioning import ThinkerConditioner
from omnictl.models.thinker import Thinker, ThinkerConfig

TEXT = "the cat sat on the mat."


def make_conditioner() -> ThinkerConditioner:
    torch.manual_seed(0)
    tokenizer = Tokenizer.train_bpe_at_most([TEXT] * 5, 300)
    config = ThinkerConfig(layers=1, width=16, heads=2, kv_heads=1, hidden=16, context=32)
    return ThinkerConditioner(Thinker(config, tokenizer.vocab_size).eval(), tokenizer)


def test_every_symbol_has_the_state_of_its_token() -> None:
    conditioner = make_conditioner()
    states = conditioner(TEXT)
    assert states.shape == (len(TEXT) + 2, 16)
    ids = conditioner.tokenizer.encode(TEXT, markup=False)
    with torch.no_grad():
        hidden = conditioner.model(torch.tensor([ids])).hidden[0]
    place = 1
    for token, state in zip(ids, hidden, strict=True):
        for _ in conditioner.tokenizer.decode([token]):
            torch.testing.assert_close(states[place], state)
            place += 1
    assert place == len(TEXT) + 1
    torch.testing.assert_close(states[0], hidden[0])
    torch.testing.assert_close(states[-1], hidden[-1])


def test_what_comes_later_is_not_known() -> None:
    conditioner = make_conditioner()
    one, other = conditioner("the cat sat"), conditioner("the cat mat")
    torch.testing.assert_close(one[:8], other[:8])
    assert not torch.allclose(one[10], other[10])
