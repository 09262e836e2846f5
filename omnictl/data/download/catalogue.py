"""The public corpora that `omnictl data get` knows. A new one is an entry of `CATALOGUE`.

Checksums are those that the publishers, torchaudio, torchvision or fastai give. Where nobody gives one, there is none, and only
sizes are compared.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from omnictl.config.split import Split
from omnictl.data.download.preparation import flatten_text, list_food, list_fsdd, list_speech_commands


class RemoteFile(NamedTuple):
    """A file of a corpus."""

    urls: tuple[str, ...]
    """The same file in several places, tried in this order."""
    num_bytes: int
    """About."""
    checksum: str | None = None
    """`md5:…` or `sha256:…`."""
    place: str = ""
    """Folder below the corpus's that it is unpacked into, or copied to."""

    @property
    def name(self) -> str:
        """Of the file itself."""
        return self.urls[0].rpartition("/")[2].partition("?")[0]


class PublicCorpus(NamedTuple):
    """A corpus that can be downloaded."""

    summary: str
    stages: tuple[str, ...]
    """The commands that read it."""
    licence: str
    source: str
    """Its own page."""
    files: tuple[RemoteFile, ...]
    data: str = "."
    """The folder below the corpus's that is given to `--data`."""
    unpacked: float = 1.1
    """How many times as large it is when it is unpacked."""
    prepare: Callable[[Path], None] | None = None
    """What is still to be done in the corpus's folder, so that it can be read."""
    held_out: Split | None = None
    """The split of all of it, if nothing of it is to be trained on."""

    def commands(self, data: Path) -> list[str]:
        """What reads it from a folder: training, or where it is held out, the evaluation of a run."""
        if self.held_out is None:
            return [f"omnictl {stage} --data {data}" for stage in self.stages]
        return [f"omnictl eval {stage} --data {data} --split {self.held_out}" for stage in self.stages]

    @property
    def num_bytes(self) -> int:
        """Of all files, about."""
        return sum(file.num_bytes for file in self.files)


def _librispeech(part: str, num_bytes: int, sha256: str, held_out: Split | None = None) -> PublicCorpus:
    places = (
        "https://www.openslr.org/resources/12",
        "https://us.openslr.org/resources/12",
        "https://openslr.elda.org/resources/12",
    )
    file = RemoteFile(tuple(f"{place}/{part}.tar.gz" for place in places), num_bytes, f"sha256:{sha256}")
    summary = f"read books in English, {part}"
    source = "https://www.openslr.org/12"
    return PublicCorpus(summary, ("asr",), "CC BY 4.0", source, (file,), data="LibriSpeech", held_out=held_out)


def _hub(path: str, num_bytes: int, place: str = "") -> RemoteFile:
    return RemoteFile((f"https://huggingface.co/datasets/{path}",), num_bytes, place=place)


_FASTAI = "https://s3.amazonaws.com/fast-ai-imageclas"
_COCO = ("http://images.cocodataset.org", "https://s3.amazonaws.com/images.cocodataset.org")


def _coco(path: str, num_bytes: int, md5: str) -> RemoteFile:
    return RemoteFile(tuple(f"{place}/{path}" for place in _COCO), num_bytes, f"md5:{md5}")


_COCO_TRAIN = _coco("zips/train2017.zip", 19_336_861_798, "cced6f7f71b7629ddf16f17bbcfab6b2")

CATALOGUE: dict[str, PublicCorpus] = {
    "librispeech-dev-clean": _librispeech(
        "dev-clean", 337_926_286, "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3", "val"
    ),
    "librispeech-test-clean": _librispeech(
        "test-clean", 346_663_984, "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23", "test"
    ),
    "librispeech-train-clean-100": _librispeech(
        "train-clean-100", 6_387_309_499, "d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2"
    ),
    "librispeech-train-clean-360": _librispeech(
        "train-clean-360", 23_049_477_885, "146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf"
    ),
    "ljspeech": PublicCorpus(
        "24 hours of one woman reading English",
        ("talker", "asr"),
        "public domain",
        "https://keithito.com/LJ-Speech-Dataset",
        (
            RemoteFile(
                ("https://data.keithito.com/data/speech/LJSpeech-1.1.tar.bz2",),
                2_748_572_632,
                "sha256:be1a30453f28eb8dd26af4101ae40cbf2c50413b1bb21936cbcdc6fae3de8aa5",
            ),
        ),
        data="LJSpeech-1.1",
        unpacked=1.4,
    ),
    "fsdd": PublicCorpus(
        "spoken digits, 3,000 recordings by six people",
        ("asr",),
        "CC BY-SA 4.0",
        "https://github.com/Jakobovski/free-spoken-digit-dataset",
        (RemoteFile(("https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.zip",), 16_000_000),),
        unpacked=2.0,
        prepare=list_fsdd,
    ),
    "speech-commands": PublicCorpus(
        "35 words in English, 105,829 recordings by 2,618 people",
        ("asr",),
        "CC BY 4.0",
        "https://arxiv.org/abs/1804.03209",
        (
            RemoteFile(
                (
                    "https://storage.googleapis.com/download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
                    "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
                ),
                2_428_923_189,
                "sha256:af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
            ),
        ),
        unpacked=1.5,
        prepare=list_speech_commands,
    ),
    "vctk": PublicCorpus(
        "110 speakers of English with many accents, 44 hours",
        ("talker", "asr"),
        "CC BY 4.0",
        "https://datashare.ed.ac.uk/handle/10283/3443",
        (
            RemoteFile(
                ("https://datashare.is.ed.ac.uk/bitstream/handle/10283/3443/VCTK-Corpus-0.92.zip",),
                11_747_302_977,
                "md5:8a6ba2946b36fcbef0212cad601f4bfa",
            ),
        ),
    ),
    "cifar10": PublicCorpus(
        "60,000 photographs of 32 pixels, 10 classes",
        ("vision",),
        "none stated (research use)",
        "https://www.cs.toronto.edu/~kriz/cifar.html",
        (RemoteFile((f"{_FASTAI}/cifar10.tgz",), 168_168_549, "md5:a5f8c31371b63a406b23368042812d3c"),),
        data="cifar10",
    ),
    "imagenette": PublicCorpus(
        "13,394 photographs of 160 pixels, 10 classes of ImageNet",
        ("vision",),
        "Apache 2.0 (the photographs: research use)",
        "https://github.com/fastai/imagenette",
        (RemoteFile((f"{_FASTAI}/imagenette2-160.tgz",), 99_003_388, "md5:e793b78cc4c9e9a4ccc0c1155377a412"),),
        data="imagenette2-160",
    ),
    "food101": PublicCorpus(
        "101,000 photographs of 101 dishes",
        ("vision",),
        "none stated (research use)",
        "https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
        (
            RemoteFile(
                ("http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz",), 4_996_278_331, "md5:85eeb15f3717b99a5da872d97d918f87"
            ),
        ),
        data="food-101",
        prepare=list_food,
    ),
    "coco-captions": PublicCorpus(
        "123,287 photographs with five captions each",
        ("vision",),
        "CC BY 4.0 (the photographs: Flickr's terms)",
        "https://cocodataset.org",
        (
            _coco("annotations/annotations_trainval2017.zip", 252_907_541, "f4bbac642086de4f52a3fdda2de5fa2c"),
            _coco("zips/val2017.zip", 815_585_330, "442b8da7639aecaf257c1dceb8ba8c80"),
            _COCO_TRAIN,
        ),
    ),
    "llava-instruct": PublicCorpus(
        "157,712 dialogues about photographs of COCO, written by GPT-4",
        ("sft",),
        "CC BY 4.0 (the photographs: Flickr's terms)",
        "https://huggingface.co/datasets/liuhaotian/LLaVA-Instruct-150K",
        (
            _hub("liuhaotian/LLaVA-Instruct-150K/resolve/main/llava_instruct_150k.json", 229_000_000, place="train2017"),
            _COCO_TRAIN,
        ),
        data="train2017",
    ),
    "tinystories": PublicCorpus(
        "2.1 million short stories in simple English, written by GPT-3.5 and GPT-4",
        ("pretrain",),
        "CDLA-Sharing 1.0",
        "https://huggingface.co/datasets/roneneldan/TinyStories",
        (
            _hub("roneneldan/TinyStories/resolve/main/TinyStories-train.txt", 1_924_281_556),
            _hub("roneneldan/TinyStories/resolve/main/TinyStories-valid.txt", 19_447_282),
        ),
        unpacked=0.0,
    ),
    "wikitext103": PublicCorpus(
        "28,475 good articles of the English Wikipedia",
        ("pretrain",),
        "CC BY-SA 3.0",
        "https://www.salesforce.com/blog/the-wikitext-long-term-dependency-language-modeling-dataset",
        (RemoteFile(("https://wikitext.smerity.com/wikitext-103-raw-v1.zip",), 191_984_949),),
        unpacked=3.0,
        prepare=flatten_text,
    ),
    "tinyshakespeare": PublicCorpus(
        "1.1 MB of Shakespeare, the usual first text",
        ("pretrain",),
        "public domain",
        "https://github.com/karpathy/char-rnn",
        (
            RemoteFile(
                ("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",),
                1_115_394,
                "sha256:86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
            ),
        ),
        unpacked=0.0,
    ),
    "fineweb-edu": PublicCorpus(
        "the first file of a sample of educational web pages, about 700 million tokens",
        ("pretrain",),
        "ODC-By 1.0",
        "https://huggingface.co/datasets/HuggingFaceFW/fineweb-edu",
        (_hub("HuggingFaceFW/fineweb-edu/resolve/main/sample/10BT/000_00000.parquet", 2_150_000_000),),
        unpacked=0.0,
    ),
}


def with_mirrors(corpus: PublicCorpus, mirrors: Sequence[str]) -> PublicCorpus:
    """The same corpus, its files looked for in these places first, each below its own name."""
    files = (
        file._replace(urls=(*(f"{mirror.rstrip('/')}/{file.name}" for mirror in mirrors), *file.urls)) for file in corpus.files
    )
    return corpus._replace(files=tuple(files))
