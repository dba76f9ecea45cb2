//go:build tools

// Package tools pins the Prometheus that the real laboratory builds and runs.
package tools

import _ "github.com/prometheus/prometheus/cmd/prometheus"
