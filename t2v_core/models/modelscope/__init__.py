"""The ModelScope text-to-video network: configuration, 3D UNet, autoencoder, text tower, and their checkpoints."""
