-- DNS does not tell cases apart: inside a VPC names differ by more.  Of rows that do not, the oldest keeps its name.
UPDATE instances SET name = substr(name, 1, 54) || '-' || substr(id, 29, 8), revision = revision + 1
    WHERE EXISTS (SELECT 1 FROM instances AS o WHERE o.vpc_id = instances.vpc_id
        AND lower(o.name /*pg: COLLATE "C" */) = lower(instances.name /*pg: COLLATE "C" */)
        AND (o.created_at < instances.created_at OR (o.created_at = instances.created_at AND o.id < instances.id)));
CREATE UNIQUE INDEX instances_vpc_name ON instances (vpc_id, lower(name /*pg: COLLATE "C" */));
DROP INDEX instances_vpc;
