"""How near a bundle comes to this processor's limit."""
