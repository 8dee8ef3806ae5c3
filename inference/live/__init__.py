"""The live release: loaded whole and verified, and followed as the pointer moves."""
