from mtmh.cli import main

main()
