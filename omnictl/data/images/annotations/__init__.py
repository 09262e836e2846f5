"""What annotations beside images say: captions, and objects with their categories, as COCO and YOLO write them."""
