"""Networks that compute as much as a picture needs: cascades by confidence, and policies that drop blocks."""
