//go:build tools

// Package tools pins the etcd that the real laboratory builds and runs.
package tools

import _ "go.etcd.io/etcd/server/v3"
