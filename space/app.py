"""The page of invsolve as a hosted Space: it listens to all addresses, at the port that the host asks for."""

import os

from invsolve.commands.cli import main

raise SystemExit(
    main(
        [
            "app",
            "--host=0.0.0.0",
            f"--port={os.environ.get('GRADIO_SERVER_PORT') or os.environ.get('PORT') or 7860}",
            "--max-pixels=1000000",
            "--max-megabytes=20",
        ]
    )
)
