"""Batched environments, of numpy and MuJoCo only: nothing here imports torch or skillrl; configs join them."""
