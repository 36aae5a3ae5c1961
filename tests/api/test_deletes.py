# SPDX-License-Identifier: Apache-2.0
"""What is deleted while it is in use by what is being deleted too: all of it goes, whoever comes first."""
import concurrent.futures

import cloud as clouds


def test_networks_images_and_instances_are_deleted_at_once_from_all_sides(pair):
    a, b = pair
    answers = []

    def delete(c, path):
        def once():
            r = c.delete(path)
            answers.append((path, r.status if r.status < 500 else r))
            return r.status != 409
        assert clouds.until(once, 30, 0.01), path

    def launch(c, name, **more):
        r = c.post("/instances", {"name": name, "image": "busybox", **more})
        answers.append((name, r.status))
        if r.status == 201:
            delete(c, f"/instances/{r.json['id']}")

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        for n in range(12):
            v = a.made("/vpcs", {"name": "v"})["id"]
            s = a.made(f"/vpcs/{v}/subnets", {"name": "s", "cidr_block": "10.0.1.0/24"})["id"]
            i = [a.made("/instances", {"name": f"i{k}", "image": "busybox", "vpc_id": v})["id"] for k in range(3)]
            image = a.get("/images/busybox").json["id"]
            jobs = [pool.submit(delete, (a, b)[k % 2], f"/instances/{x}") for k, x in enumerate(i)]
            jobs += [pool.submit(delete, c, path) for c, path in ((b, f"/vpcs/{v}"), (a, f"/subnets/{s}"), (b, f"/images/{image}"))]
            jobs += [pool.submit(launch, (a, b)[k], f"late{k}", vpc_id=v) for k in range(2)]
            [j.result() for j in jobs]
            assert clouds.until(lambda v=v: b.get(f"/vpcs/{v}").status == 404, 30), [x for x in answers if v in x[0] or not isinstance(x[1], int)]
            assert clouds.until(lambda image=image: b.get(f"/images/{image}").status == 404, 30), b.get(f"/images/{image}")
    assert {status for _, status in answers} <= {200, 201, 404, 409, 503}, answers
    for kind in ("instances", "vpcs"):
        assert a.get(f"/{kind}").json == [], kind
