// Package charts tests the Helm charts and the plain manifests of deployment/. It is a module of its
// own, so that only these tests pay for Helm and the types of Kubernetes.
package charts
