#!/bin/sh
# Builds the image of the Dockerfile beside this file, from any folder:
#
#	mongotest/image.sh [name]
#
# The name is mongostore/ferretdb:test by default. Run the tests on it with
# MONGOSTORE_TEST_IMAGE=mongostore/ferretdb:test.
set -eu
name=${1:-mongostore/ferretdb:test}
cd "$(dirname "$0")"

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
trap 'exit 1' HUP INT TERM

# The binary must suit the machine of the daemon, which is often a virtual one.
arch=$(docker version --format '{{.Server.Arch}}')
CGO_ENABLED=0 GOOS=linux GOARCH=$arch go build -trimpath -ldflags='-s -w' -tags ferretdb_no_postgresql \
	-o "$context/mongotest" ./cmd/mongotest
cp Dockerfile "$context"
docker build --quiet --tag "$name" "$context"
