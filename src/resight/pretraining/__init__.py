"""Learning without labels: the losses, each an ``Objective`` of the one loop, and the signs that they work.

``simclr``, ``byol``, ``fastsiam``, ``dino``: one method each. ``views``: what they share. ``joint``: embeddings of all
processes. ``watch``: whether answers have collapsed. ``signals``: what is found after each epoch. ``build``: a method
by its name.
"""
