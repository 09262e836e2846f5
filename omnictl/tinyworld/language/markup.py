"""ChatML, as phrases of a document: USER question ANSWER answer CLOSE, then NEXT_USER before each further question."""

USER = "<|im_start|>user\n"
ANSWER = "<|im_end|>\n<|im_start|>assistant\n"
CLOSE = "<|im_end|>"
NEXT_USER = "\n<|im_start|>user\n"
