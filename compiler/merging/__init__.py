"""One model out of many: parameters matched by structure, merged tensor by tensor."""
