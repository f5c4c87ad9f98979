"""The packaged priors for photographs: denoising, samples, their training images, and their cards."""
