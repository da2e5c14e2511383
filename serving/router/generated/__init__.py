"""Messages of serving/router/mtmh.proto; a test holds the two together. Made by, in the checkout:

python -m grpc_tools.protoc -I serving/router/generated=serving/router --python_out=. --pyi_out=. \
    serving/router/generated/mtmh.proto
"""
