"""The streamed views: one module per view, each a pure definition for stream and history alike."""
