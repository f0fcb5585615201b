"""Data sets as tensors on the device.

sources         a data set by its name, as it lies in its files: fingerprint, shape, validation split
sets            it as tensors on the device
stored          what images on the host or the disk are indexed by, in place of a tensor
mapped          images in files that are mapped into memory
decoded         images of a folder, decoded whenever they are read
loader          images of the host, read ahead of the step and copied to a card beside it
batches         seeded order, crops and flips of a whole batch at once
resized         random resized crops of a whole batch
policies        augmentation policies of torchvision's, drawn for each image
cutmix          windows of other images of the batch
extra           training images beside the data set's
archives        digits and the official archives as uint8 arrays
decoding        an image file as pixels
image_folder    a folder of images, decoded once
large_folder    one whose pixels are too many for memory: mapped
shards          pixels in mapped files, with an index and hashes
preparing       writes them, on from where it was stopped
chunk           a part of them: decoded and written, by processes of their own
moments         mean and standard deviation of each channel
tiny_imagenet   its layout
own_set         a user's own
unseen          what is published of data that are not here
"""
