"""Hydra's configuration files, installed as ``mfnet.conf``."""
