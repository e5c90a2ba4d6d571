package metadata

import "encoding/json"

// Values of the virtual machine that all three clouds describe.
const (
	vmName    = "mock-vm"
	projectID = "mock-project"
	projectNo = "123456789012"
	zone      = "us-central1-a"

	pathPreempted   = "instance/preempted"
	pathMaintenance = "instance/maintenance-event"
	pathUpcoming    = "instance/upcoming-maintenance"
	pathStopState   = "instance/shutdown-details/stop-state"
	pathGuest       = "instance/guest-attributes"
)

// newTree makes the tree of a Spot VM. A VM with a notice has shutdown details too.
func newTree(p Personality, notice bool) *node {
	instance := map[string]*node{
		"attributes": dir(map[string]*node{
			"cluster-name":     leaf("mock-cluster"),
			"cluster-location": leaf("us-central1"),
		}),
		"hostname": leaf(vmName + ".c." + projectID + ".internal"),
		"id":       leaf(json.Number("4520031799277581759")),
		"zone":     leaf("projects/" + projectNo + "/zones/" + zone),
		"service-accounts": dir(map[string]*node{
			"default": dir(map[string]*node{
				"aliases":  leaf([]string{"default"}),
				"email":    leaf(projectNo + "-compute@developer.gserviceaccount.com"),
				"scopes":   leaf([]string{"https://www.googleapis.com/auth/cloud-platform"}),
				"token":    {value: `{"access_token":"mock-access-token","expires_in":3599,"token_type":"Bearer"}`, mime: mimeJSON, secret: true},
				"identity": {value: "mock-header.mock-claims.mock-signature", mime: "text/html", secret: true},
			}),
		}),
	}
	if p != GKEWorkloadIdentity {
		addMachine(instance, notice)
	}
	return dir(map[string]*node{
		"instance": dir(instance),
		"project": dir(map[string]*node{
			"project-id":         leaf(projectID),
			"numeric-project-id": leaf(json.Number(projectNo)),
			"attributes":         dir(nil),
		}),
		"universe": dir(map[string]*node{"universe-domain": leaf("googleapis.com")}),
	})
}

// addMachine adds what Workload Identity hides from pods.
func addMachine(instance map[string]*node, notice bool) {
	instance["name"] = leaf(vmName)
	instance["machine-type"] = leaf("projects/" + projectNo + "/machineTypes/e2-standard-2")
	instance["tags"] = &node{value: []string{}, mime: mimeJSON}
	instance["preempted"] = leaf("FALSE")
	instance["maintenance-event"] = leaf("NONE")
	instance["upcoming-maintenance"] = leaf("NONE")
	instance["guest-attributes"] = dir(nil)
	instance["scheduling"] = dir(map[string]*node{
		"automatic-restart":   leaf("FALSE"),
		"on-host-maintenance": leaf("TERMINATE"),
		"preemptible":         leaf("TRUE"),
	})
	if notice {
		instance["shutdown-details"] = dir(map[string]*node{
			"stop-state":        leaf("UNSPECIFIED"),
			"target-state":      leaf("UNSPECIFIED"),
			"max-duration":      leaf("0"),
			"request-timestamp": leaf(""),
		})
	}
}
