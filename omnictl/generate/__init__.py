"""From what models give to text and sound: tokens one by one, CTC decoding, n-grams, speech synthesis, Griffin-Lim."""
