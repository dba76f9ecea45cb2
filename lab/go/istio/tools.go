//go:build tools

// Package tools pins the istiod that the real laboratory builds and runs.
package tools

import _ "istio.io/istio/pilot/cmd/pilot-discovery"
