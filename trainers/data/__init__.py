"""Data sets as tensors on the device.

sets            a data set by its name: validation split, fingerprint, shapes
mapped          images in files that are mapped into memory
loader          images of the host, read ahead of the step and copied to a card beside it
batches         seeded order, crops and flips of a whole batch at once
resized         random resized crops of a whole batch
policies        augmentation policies of torchvision's, drawn for each image
cutmix          windows of other images of the batch
extra           training images beside the data set's
archives        digits and the official archives as uint8 arrays
image_folder    a folder of images, decoded once
tiny_imagenet   its layout
own_set         a user's own
unseen          what is published of data that are not here
"""
