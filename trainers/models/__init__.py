"""The networks: each takes images (B, C, H, W) in [0, 1] and returns logits (B, num_classes).

The rooms:
    registry            build: a network by its name, with seeded weights and its own normalisation
    sizes               which images a network takes, known before it is built
    fine_tuning         the weights from which a trial starts where it does not draw them
    activations         what may stand in place of their ReLUs
    stages              how every residual network here is stacked
    small_cnn           some 20 thousand parameters, for 8 x 8 digits on a CPU
    preact_resnet       PreActResNet-18 for small images
    resnet              ResNet-18 for small images
    senet               SENet-18: PreActResNet-18 with squeeze-and-excitation
    vgg                 VGG-16 and VGG-19 with batch norm
    wide_resnet         WRN-28-10 and WRN-34-10
    vit                 a small Vision Transformer that can be differentiated twice
    torchvision_models  torchvision's classifiers, their stems adapted to small images
    timm_models         those of the package timm, as they are
    meta                networks without values, to try what they take
"""
