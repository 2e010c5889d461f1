#!/usr/bin/env bash
# Makes .venv, writes the synthetic capture and reconstructs it: meshes, held-out renders, figures, a contact sheet.
# Usage: scripts/demo.sh [RUN_FOLDER] (default runs/demo). DEMO_SECONDS sets the training time (default 90).
set -euo pipefail
. "$(dirname "$0")/environment.sh"

run="${1:-runs/demo}"
capture="$run-capture"
resfields-ngp synth "$capture" --overwrite
resfields-ngp reconstruct "$capture" --out "$run" --scene scenes/synthetic.toml --overwrite \
  --seconds "${DEMO_SECONDS:-90}" --resolution 160 --imaging.orbit-pictures 24 \
  --evaluation.points 30000
echo
echo "Look at $run/contact_sheet.png; the meshes are in $run/meshes/, the videos in $run/renders/."
