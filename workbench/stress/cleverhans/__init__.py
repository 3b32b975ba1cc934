"""CleverHans 4.0's attacks, wrapped so that its faults never reach a user; `docs/cleverhans.md` lists them."""
