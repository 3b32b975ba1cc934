"""When a medical-imaging model is wrong, does it know? The trust and robustness workbench."""

__version__ = "0.1.0"
