"""List the benches, or run one: `make bench ARGS=fuzz_wire`."""

import runpy
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    """Run the bench named first with the arguments behind it; without a name say what there is."""
    if len(sys.argv) > 1:
        name = sys.argv[1]
        if not (HERE / f"{name}.py").exists():
            sys.exit(f"there is no bench {name!r}")
        sys.argv = sys.argv[1:]
        runpy.run_module(f"bench.{name}", run_name="__main__", alter_sys=True)
        return
    print((HERE / "README.md").read_text("utf-8"))


if __name__ == "__main__":
    main()
