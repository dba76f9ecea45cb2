//go:build tools

// Package tools pins the Kubernetes that the real laboratory builds and runs.
package tools

import (
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kube-controller-manager"
)
