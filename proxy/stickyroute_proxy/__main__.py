from stickyroute_proxy.main import main

main()
