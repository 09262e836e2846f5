"""How trained models are judged, split by split: figures, controls, predictions."""
