"""Does the software fit together: Python, wheels, codecs of audio and images, voices, playback, compilers.

Nothing here needs torch, so that a broken one can be named.
"""

import platform
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module, metadata
from importlib.util import find_spec
from os import environ
from typing import Any, NamedTuple

from packaging.requirements import InvalidRequirement, Requirement

from omnictl.errors import OmniError
from omnictl.measure.doctor.finding import Finding, fail, ok, warn
from omnictl.tinyworld.speech.espeak import Request, speak
from omnictl.tinyworld.speech.voices import KNOWN_VOICES, UNSEEN_VOICES

OLDEST_PYTHON = (3, 11)

WHEELS = ("torch", "torchaudio", "torchvision")
"""Compiled against one another."""

REINSTALL = f"pip install --force-reinstall {' '.join(WHEELS)}"

AUDIO_FORMATS = {"WAV": "any corpus", "FLAC": "LibriSpeech", "MP3": "Common Voice", "OGG": "Opus and Vorbis files"}
"""And who uses them."""

IMAGE_FORMATS = {"jpg": "JPEG", "zlib": "PNG", "webp": "WebP"}

COMPILERS = ("c++", "g++", "clang++")


class Wheels(NamedTuple):
    """The packages that are compiled against one another."""

    versions: Mapping[str, str]
    broken: Mapping[str, str]
    """Those that cannot be imported, and why."""
    unmet: list[str]
    """Requirements of omnictl that are not met, each with what was found."""


class PlaybackDevices(NamedTuple):
    """What plays audio aloud."""

    installed: bool
    error: str | None
    """Why the package does not work."""
    output: str | None
    """Name of the device, if there is one."""


def check_python(version: tuple[int, int] = sys.version_info[:2], system: str = platform.system()) -> Finding:
    """Whether Python and the operating system are those that omnictl is tested with."""
    text = f"{version[0]}.{version[1]} on {system}"
    if version < OLDEST_PYTHON:
        return fail("Python", f"{text}: omnictl needs 3.11 or newer", "make a virtual environment with a newer Python")
    if system != "Linux":
        return warn("Python", f"{text}: omnictl is tested on Linux only", "use Linux if something fails; under Windows, WSL 2")
    return ok("Python", text)


def read_wheels(*, imported: bool) -> Wheels:
    """Look at what is installed; whether it can be imported takes some seconds to know."""
    versions, broken = {}, {}
    for name in WHEELS:
        try:
            versions[name] = metadata.version(name)
            if imported:
                versions[name] = str(import_module(name).__version__)
        except (ImportError, OSError, RuntimeError, AttributeError) as error:
            broken[name] = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return Wheels(versions, broken, _unmet())


def check_wheels(wheels: Wheels) -> Finding:
    """Whether the installed packages belong together."""
    if wheels.broken:
        name, reason = next(iter(wheels.broken.items()))
        others = ", ".join(f"{other} {version}" for other, version in wheels.versions.items() if other != name)
        return fail("wheels", f"{name} cannot be imported beside {others}: {reason}", REINSTALL)
    builds = {name: version.partition("+")[2] for name, version in wheels.versions.items() if "+" in version}
    if len(set(builds.values())) > 1:
        text = ", ".join(f"{name} {wheels.versions[name]}" for name in builds)
        return fail("wheels", f"built for different machines: {text}", f"{REINSTALL}, all from one index")
    if wheels.unmet:
        wanted = " ".join(f"'{line.partition(', found')[0]}'" for line in wheels.unmet)
        return fail("wheels", f"omnictl needs {'; '.join(wheels.unmet)}", f"pip install {wanted}")
    return ok("wheels", ", ".join(f"{name} {version}" for name, version in wheels.versions.items()))


def _unmet() -> list[str]:
    """Requirements of omnictl that the installed packages do not meet."""
    try:
        requirements = [Requirement(text) for text in metadata.requires("omnictl") or []]
    except (metadata.PackageNotFoundError, InvalidRequirement):  # run from a folder, without being installed
        return []
    unmet = []
    for requirement in requirements:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            installed = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            installed = "nothing"
        if installed == "nothing" or not requirement.specifier.contains(installed, prereleases=True):
            unmet.append(f"{requirement}, found {installed}")
    return unmet


def check_espeak(say: Callable[[list[Request]], Any] = speak) -> Finding:
    """Whether espeak-ng has all voices of the built-in world; a process says "Yes." in each."""
    voices = (*KNOWN_VOICES, *UNSEEN_VOICES)
    try:
        say([Request("Yes.", voice, rate=170, pitch=50) for voice in voices])
    except (OmniError, ImportError) as error:
        message = error.message if isinstance(error, OmniError) else str(error)
        fix = "pip install --force-reinstall espeakng-loader, or train on recordings with --data PATH"
        return fail("espeak", f"the built-in voices cannot speak: {message}", fix)
    return ok("espeak", f"{len(voices)} voices speak")


def check_audio_formats(read: Callable[[], Mapping[str, str]] | None = None) -> Finding:
    """Whether libsndfile reads the formats that corpora come in."""
    try:
        formats = read() if read is not None else import_module("soundfile").available_formats()
    except (ImportError, OSError) as error:
        return fail("audio files", f"soundfile cannot be imported: {error}", "pip install --force-reinstall soundfile")
    lacking = [f"{name} ({use})" for name, use in AUDIO_FORMATS.items() if name not in formats]
    if lacking:
        fix = "pip install --force-reinstall soundfile: its wheels bring a libsndfile that can, 1.1 or newer"
        return warn("audio files", f"libsndfile cannot read {', '.join(lacking)}", fix)
    return ok("audio files", f"{', '.join(AUDIO_FORMATS)} can be read")


def check_image_formats(check: Callable[[str], Any] | None = None) -> Finding:
    """Whether Pillow reads the usual formats."""
    has = check or import_module("PIL.features").check
    lacking = [name for feature, name in IMAGE_FORMATS.items() if not has(feature)]
    if lacking:
        return warn("image files", f"Pillow cannot read {', '.join(lacking)}", "pip install --force-reinstall pillow")
    return ok("image files", f"{', '.join(IMAGE_FORMATS.values())} can be read")


def read_playback_devices() -> PlaybackDevices:
    """Ask PortAudio for a device to play on."""
    if find_spec("sounddevice") is None:
        return PlaybackDevices(installed=False, error=None, output=None)
    try:
        module = import_module("sounddevice")
        device = module.query_devices(kind="output")
    except OSError as error:
        return PlaybackDevices(installed=True, error=str(error), output=None)
    except Exception as error:  # PortAudioError, which cannot be imported where PortAudio is missing
        if type(error).__name__ not in ("PortAudioError", "ValueError"):
            raise
        return PlaybackDevices(installed=True, error=None, output=None)
    return PlaybackDevices(installed=True, error=None, output=str(device["name"]))


def check_playback(devices: PlaybackDevices) -> Finding:
    """Whether replies can be heard at once."""
    if not devices.installed:
        return ok("playback", "off: replies are written into files. To hear them in a chat: pip install 'omnictl[play]'")
    if devices.error is not None:
        return warn(
            "playback", f"PortAudio is missing: {devices.error}", "apt install libportaudio2, or write replies with --speak FILE"
        )
    if devices.output is None:
        return warn("playback", "there is no device to play on", "connect one, or write replies with --speak FILE")
    return ok("playback", f"on {devices.output}")


def check_compiler(find: Callable[[str], str | None] = shutil.which) -> Finding:
    """Whether models can be compiled."""
    names = (environ["CXX"],) if environ.get("CXX") else COMPILERS
    program = next((path for name in names if (path := find(name)) is not None), None)
    if program is None:
        message = f"no C++ compiler ({', '.join(names)}): train.runtime.compile, which is off, needs one"
        return warn("compiler", message, "apt install g++, or leave train.runtime.compile off")
    return ok("compiler", program)


def examine_software() -> Iterator[Finding]:
    """Look at everything that is installed, one subject after the other; takes some seconds."""
    yield check_python()
    yield check_wheels(read_wheels(imported=True))
    yield check_espeak()
    yield check_audio_formats()
    yield check_image_formats()
    yield check_playback(read_playback_devices())
    yield check_compiler()
