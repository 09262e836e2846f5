"""The command line. Only this layer prints, prompts and exits; torch is imported inside commands, never for `--help`."""

from omnictl.cli.app import main as main
