"""The Streamlit review app: page order and widgets only; what it shows is made in `workbench.review`."""
