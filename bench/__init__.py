"""What is measured, and against whom: `./run bench PART …` (docs/performance.md has the method and the figures)."""
