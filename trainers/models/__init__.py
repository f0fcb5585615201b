"""The networks: each takes images (B, C, H, W) in [0, 1] and returns logits (B, num_classes).

The rooms:
    registry       build: a network by its name, with seeded weights and its own normalisation
    small_cnn      some 20 thousand parameters, for 8 x 8 digits on a CPU
    preact_resnet  PreActResNet-18 for small images
"""
