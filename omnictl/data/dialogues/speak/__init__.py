"""Written dialogues turned into spoken ones: which questions, in whose voices, into which files."""
