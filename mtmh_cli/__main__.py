from mtmh_cli import main

main()
