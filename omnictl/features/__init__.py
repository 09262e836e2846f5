"""What trained encoders, codecs and aligners make of a corpus for other stages."""
