"""Layouts of speech that need more than a table: Kaldi, VCTK, subtitles, and segments of long recordings."""
