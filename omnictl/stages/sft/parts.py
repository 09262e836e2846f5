"""The models that one of stage E is made of: those of the run that it begins as, else of runs of the other stages."""

from pathlib import Path

from omnictl.data.dialogues.corpus import DialogueCorpus
from omnictl.data.dialogues.modalities import MODALITIES, needed_stages
from omnictl.data.text.tokenizer import Tokenizer
from omnictl.errors import CheckpointError, ConfigError
from omnictl.runs.model_folder import parts_in, read_config
from omnictl.runs.run import Run
from omnictl.stages.protocol import StageContext
from omnictl.stages.sft.config import SftConfig

THINKER, TALKER = "pretrain", "talker"

PARTS = (THINKER, *dict.fromkeys(modality.stage for modality in MODALITIES.values()), TALKER)
"""The stages whose models its model folder may hold."""


def choose_parts(config: SftConfig, context: StageContext, corpus: DialogueCorpus) -> dict[str, Path]:
    """Model folders by stage: what the data needs, and the Talker if there is one; or all that another run was made of.

    Of a model that begins as another run, `context.upstream` has the parts that are to take the place of that run's.

    Raises:
        CheckpointError: a part is missing, or one that is named does not go with the other run.
        ConfigError: the other run cannot learn from pairs of replies.
    """
    needed, begun = needed_stages(corpus.kinds), {} if context.init is None else _parts_of(context.init, config)
    if context.init is None and config.objective == "dpo":
        raise CheckpointError(
            "pairs of replies teach a model that answers already, and none was named",
            where="--init",
            fix="name a run of `omnictl sft`: --objective dpo --init latest",
        )
    missing = [stage for stage in needed if stage not in (context.upstream if context.init is None else begun)]
    if missing:
        needs, fix = f"{corpus.name} needs a trained model of stage `{missing[0]}`", f"make one: omnictl {missing[0]}"
        if context.init is not None:
            needs += f", and {context.init.path} was made without one"
            fix = "leave --init out: what joins it to the Thinker is still to be learned"
        raise CheckpointError(needs, where=missing[0], fix=fix)
    named = {stage: context.upstream[stage] for stage in (*needed, *begun, TALKER) if stage in context.upstream}
    if context.init is not None and THINKER in named:
        _check_tokenizer(begun[THINKER], named[THINKER], context.init)
    return begun | named


def _parts_of(run: Run, config: SftConfig) -> dict[str, Path]:
    """What a run was made of.

    Raises:
        CheckpointError: it has no model folder.
        ConfigError: it cannot learn from pairs of replies.
    """
    encoders = read_config(run.model, "sft", SftConfig).model.encoders
    if config.objective == "dpo" and encoders != "frozen":
        raise ConfigError(
            f"{run.path} has model.encoders={encoders}, pairs of replies are learned with frozen encoders only",
            where="--init",
            fix="name a run of `omnictl sft` with model.encoders=frozen, which is the default",
        )
    return parts_in(run.model, PARTS)


def _check_tokenizer(own: Path, other: Path, run: Run) -> None:
    """Refuse a Thinker whose tokens are not those that the weights of a run know.

    Raises:
        CheckpointError: they are others.
    """
    first, second = (Tokenizer.load(folder / "tokenizer.json").fingerprint for folder in (own, other))
    if first != second:
        raise CheckpointError(
            f"the tokenizer of {other} is not that of {run.path}, whose weights know no other tokens",
            where="--thinker",
            fix="leave --thinker out, or --init",
        )
